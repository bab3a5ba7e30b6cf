#!lua
-- Take ownership of a queued run. The same nonce again gets the same answer.
-- Uses: core claims
-- ARGV: id host nonce kind page
-- Replies: CLAIMED epoch attempt failures crashes generation seen length queued now entries
--        | GONE | ENDED status | OWNED host | WAITING
local COARSE = 100 -- ms: the overtaking rule has seconds of slack, so that not each claim need be noted
local id, host, nonce = ARGV[1], ARGV[2], ARGV[3]
local r = load(id, CLAIM)
if not r then return { 'GONE' } end
if ENDED[r.status] then return { 'ENDED', r.status } end
local epoch = r.epoch
if r.host and r.host ~= '' then
  if string.match(epoch, ':(.*)$') ~= nonce then return { 'OWNED', r.host } end
elseif r.status ~= 'queued' then
  return { 'WAITING' }
else
  epoch = take(id, r, host, nonce, ARGV[4])
  dequeue(id, r)
  local slot = r.queue .. ':' .. r.priority
  local newest = tonumber(redis.call('HGET', P .. 'claimed', slot) or '0')
  if tonumber(r.queued) > newest + COARSE then redis.call('HSET', P .. 'claimed', slot, r.queued) end
end
return claimed(id, r, epoch, tonumber(ARGV[5]))
