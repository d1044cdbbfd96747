"""DNF-Avatar: a relightable person, from a field that is slow to render (teacher) to fast surfels (student)."""
