"""The networks, their losses, both sides' training steps and the scores: the only place where torch computes."""
