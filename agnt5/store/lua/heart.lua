#!lua flags=allow-oom
-- Say that a host lives. Shard 0 only.
-- Uses: core
-- ARGV: host
-- Replies: OK now | NEW now     (NEW: it was not listed, so that what it owned may have been taken)
local added = redis.call('ZADD', P .. 'hosts', NOW_S, ARGV[1])
return { added == 1 and 'NEW' or 'OK', NOW_S }
