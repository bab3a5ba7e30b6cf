#!lua
-- Take ownership of a queued run. The same nonce again gets the same answer.
-- Uses: core
-- ARGV: id host nonce kind page
-- Replies: CLAIMED epoch attempt failures crashes generation seen length now entries
--        | GONE | ENDED status | OWNED host | WAITING
local COARSE = 100 -- ms: the overtaking rule has seconds of slack, so that not each claim need be noted
local id, host, nonce, page = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
local r = load(id, { 'status', 'host', 'epoch', 'gen', 'queue', 'priority', 'queued', 'attempt', 'started', 'claims', 'seen',
  'failures', 'crashes', 'newtry' })
if not r then return { 'GONE' } end
if ENDED[r.status] then return { 'ENDED', r.status } end
local key, log = P .. 'run:' .. id, P .. 'log:' .. id
local epoch = r.epoch
if r.host and r.host ~= '' then
  if string.match(epoch, ':(.*)$') ~= nonce then return { 'OWNED', r.host } end
elseif r.status ~= 'queued' then
  return { 'WAITING' }
else
  local count = ms((r.claims or 0) + 1)
  epoch = count .. ':' .. nonce
  redis.call('HSET', key, 'status', 'running', 'host', host, 'epoch', epoch, 'op', '0', 'kind', ARGV[4],
    'full', '', 'more', '', 'claims', count, 'started', r.started or NOW_S)
  dequeue(id, r)
  redis.call('SADD', P .. 'owned:' .. host, id)
  local slot = r.queue .. ':' .. r.priority
  local newest = tonumber(redis.call('HGET', P .. 'claimed', slot) or '0')
  if tonumber(r.queued) > newest + COARSE then redis.call('HSET', P .. 'claimed', slot, r.queued) end
  if r.newtry then
    redis.call('HDEL', key, 'newtry')
    redis.call('RPUSH', log, entry('{"e":"AttemptStarted","attempt":' .. r.attempt .. ',"host":"' .. host .. '"}'))
  end
end
local entries = redis.call('LRANGE', log, 0, page - 1)
local length = #entries < page and #entries or redis.call('LLEN', log)
return { 'CLAIMED', epoch, r.attempt, r.failures or '0', r.crashes or '0', r.gen, r.seen or '0', ms(length), NOW_S,
  entries }
