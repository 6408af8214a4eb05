"""`msvl gradcheck`: one process against N ranks, for our objectives and for anybody's."""
