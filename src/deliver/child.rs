//! (E) A program that runs under bursar.
