#!lua flags=allow-oom
-- Ask for the messages of queued runs again: those that later ones overtook, and with `probe` the oldest.
-- Uses: core
-- ARGV: slot before slack limit probe
-- slot: queue:priority; before: runs queued earlier than this were overtaken; slack: ms, doubled by each sending
-- A run whose message was sent again moves back in the set by the distance that it has to keep, so that runs which
-- nobody takes (an unknown handler) never stand in the way of those behind them.
-- Replies: OK sent oldest out
local zset, slack = P .. 'queued:' .. ARGV[1], tonumber(ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', zset, '-inf', '(' .. ARGV[2], 'LIMIT', 0, ARGV[4])
if #ids == 0 and ARGV[5] == '1' then ids = redis.call('ZRANGE', zset, 0, 0) end
local sent = 0
for _, id in ipairs(ids) do
  local key = P .. 'run:' .. id
  local v = redis.call('HMGET', key, 'status', 'queue', 'priority', 'handler', 'sends', 'sent')
  if v[1] ~= 'queued' then
    redis.call('ZREM', zset, id)
  else
    local sends = tonumber(v[5] or '0')
    local wait = slack * math.pow(2, math.min(sends, 10))
    if NOW - tonumber(v[6]) >= wait then
      redis.call('HSET', key, 'sends', ms(sends + 1), 'sent', NOW_S)
      redis.call('ZADD', zset, ms(NOW + slack * math.pow(2, math.min(sends + 1, 10))), id)
      send(id, { queue = v[2], priority = v[3], handler = v[4] })
      sent = sent + 1
    end
  end
end
local first = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
return { 'OK', ms(sent), first[2] or '', OUT }
