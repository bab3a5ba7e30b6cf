#!lua flags=allow-oom
-- Lend a beat the ends that it is to tell of, oldest first.
-- One that it has not struck off when the lease has passed goes to whoever asks then.
-- Uses: core
-- ARGV: limit lease
-- lease: ms
-- Replies: OK ends
local key = P .. 'untold'
local ends = redis.call('ZRANGEBYSCORE', key, '-inf', NOW_S, 'LIMIT', 0, ARGV[1])
for _, one in ipairs(ends) do redis.call('ZADD', key, ms(NOW + ARGV[2]), one) end
return { 'OK', ends }
