//! Login and error pages and their assets, as typed templates without IO.
