"""The implicit teacher of relightable people: signed distance, radiance and material fields of one canonical body."""
