//! Who a key or certificate signs in, and to what.
