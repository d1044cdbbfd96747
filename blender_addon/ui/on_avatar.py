"""What operators on the selected avatar have in common."""

from __future__ import annotations

from typing import Any

from ..services.rig_info import avatar_of


class OnAvatar:
    """Base of operators that work on the avatar the active object belongs to."""

    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        """Needs an avatar."""
        if avatar_of(context.object) is not None:
            return True
        cls.poll_message_set("Select an avatar")
        return False
