//! The schema, and the roles' passwords.
