"""The motions that come with Effigy (`make_motions` makes them; they are public domain, CC0)."""
