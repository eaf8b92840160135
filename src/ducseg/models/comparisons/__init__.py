"""The systems that the paper's tables 4 and 6 stand beside: one file each, with its authors' words and shapes."""
