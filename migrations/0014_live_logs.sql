-- The api reads the log stream, for people who look at logs.
--
-- It appends nothing, so it is told of settled blocks like any other reader.

grant select on stream.blocks, stream.horizons to spillway_api;
grant execute on function stream.settled_below, stream.open_since to spillway_api;
