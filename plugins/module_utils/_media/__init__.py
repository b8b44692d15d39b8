"""Images of CDs and floppies, made in memory: the only code that uses pycdlib and pyfatfs."""
