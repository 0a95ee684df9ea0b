"""What must always hold, and what must sometimes happen, in any run of the virtual world."""
