//! What an operator does without the api: first organizations and users.
