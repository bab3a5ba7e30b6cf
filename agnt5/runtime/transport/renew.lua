#!lua flags=allow-oom
-- Say that the consumer of these messages is alive; tags which are no longer unacknowledged stay away.
-- KEYS  1 unacked_index (zset)
-- ARGV  tags, at most 1000
-- reply number of tags
local clock = redis.call('TIME')
local score = clock[1] .. '.' .. string.format('%06d', tonumber(clock[2]))
local scores = {}
for i = 1, #ARGV do
  scores[2 * i - 1], scores[2 * i] = score, ARGV[i]
end
redis.call('ZADD', KEYS[1], 'XX', unpack(scores))
return #ARGV
