"""Synthesise captures: a parametric person rendered with Cycles from known cameras. GPL-3.0-or-later.

`capture.synthesise_capture` is the one entry; `cli` wraps it for a terminal. Needs bpy, numpy and `shared` only.
"""
