//! Examples of each form, and what is left out of them.
