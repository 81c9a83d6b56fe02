"""The fast implementations as torch operators, for autograd, compilers and tracing."""
