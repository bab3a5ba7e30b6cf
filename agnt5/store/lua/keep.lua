#!lua
-- Keep log lines with a run, whoever owns it: the latest of them, by time.
-- What is there already is not kept twice, so that a repeated call changes nothing. An ended run's lines live as long
-- as its record does.
-- Uses: core
-- ARGV: id most lines (count, then time and text of each)
-- Replies: OK | GONE
local id, key = ARGV[1], P .. 'logs:' .. ARGV[1]
local left = redis.call('PTTL', P .. 'run:' .. id)
if left == -2 then return { 'GONE' } end
for i = 4, 2 + 2 * tonumber(ARGV[3]), 2 do redis.call('ZADD', key, ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYRANK', key, 0, -1 - tonumber(ARGV[2]))
if left >= 0 then redis.call('PEXPIRE', key, math.max(left, 1)) end
return { 'OK' }
