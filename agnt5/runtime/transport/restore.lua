#!lua flags=allow-oom
-- Put one unacknowledged message back into its queues; does nothing if it was acknowledged or restored meanwhile.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3.. queues
-- ARGV  1 tag  2 message, marked as redelivered  3 "next" (to be consumed next) or "last" (after what waits)
-- reply 1 restored, 0 no longer unacknowledged
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
for k = 3, #KEYS do
  redis.call(ARGV[3] == 'next' and 'RPUSH' or 'LPUSH', KEYS[k], ARGV[2])
end
return 1
