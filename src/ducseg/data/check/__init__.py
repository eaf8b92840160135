"""The doctor: every file of a data set once, all that is wrong in one report."""
