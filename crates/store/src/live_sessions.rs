//! Sessions as the edge sees them: begin, end, orphans.
