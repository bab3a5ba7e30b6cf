#!lua
-- Take ownership of a queued run. The same nonce again gets the same answer.
-- ARGV: id host nonce kind page
-- Replies: CLAIMED epoch attempt failures crashes generation seen length now entries
--        | GONE | ENDED status | OWNED host | WAITING
local id, host, nonce, page = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local r = load(id)
if not r then return { 'GONE' } end
if ENDED[r.status] then return { 'ENDED', r.status } end
local key, log = P .. 'run:' .. id, P .. 'log:' .. id
local epoch = r.epoch
if r.host and r.host ~= '' then
  if string.match(epoch, ':(.*)$') ~= nonce then return { 'OWNED', r.host } end
elseif r.status ~= 'queued' then
  return { 'WAITING' }
else
  local count = redis.call('HINCRBY', key, 'claims', 1)
  epoch = ms(count) .. ':' .. nonce
  redis.call('HSET', key, 'status', 'running', 'host', host, 'epoch', epoch, 'op', '0', 'kind', ARGV[4],
    'full', '', 'more', '')
  if not r.started then redis.call('HSET', key, 'started', NOW_S) end
  dequeue(id, r)
  redis.call('SADD', P .. 'owned:' .. host, id)
  local slot = r.queue .. ':' .. r.priority
  local newest = tonumber(redis.call('HGET', P .. 'claimed', slot) or '0')
  if tonumber(r.queued) > newest then redis.call('HSET', P .. 'claimed', slot, r.queued) end
  if redis.call('HDEL', key, 'newtry') == 1 then
    redis.call('RPUSH', log, entry('{"e":"AttemptStarted","attempt":' .. r.attempt .. ',"host":"' .. host .. '"}'))
  end
end
return { 'CLAIMED', epoch, r.attempt, r.failures or '0', r.crashes or '0', r.gen,
  redis.call('HGET', key, 'seen') or '0', ms(redis.call('LLEN', log)), NOW_S,
  redis.call('LRANGE', log, 0, page - 1) }
