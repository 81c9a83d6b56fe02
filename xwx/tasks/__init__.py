"""One verb, one file, one plain function from Dataset to Dataset."""
