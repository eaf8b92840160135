"""ducseg: semantic segmentation with dense upsampling convolution (DUC) and hybrid dilated convolution (HDC)."""

__version__ = "0.1.0"
