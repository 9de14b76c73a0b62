//! Users, memberships, SSH keys, tokens.
