"""Where each data set's files lie and how its labels read: one file a data set."""
