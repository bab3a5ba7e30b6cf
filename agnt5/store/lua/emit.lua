#!lua
-- Append chunks to the stream of an owner's run, and let its readers know.
-- An owner counts the chunks of its claim from 1, so that a repeated call appends what is missing and no more; the count
-- of its other writes (`op`) stays as it is. Past the limit what fits is appended. Beside each chunk (c) stand the time
-- (t) and the place in the journal which the next event has or will have (j): what came first is known by that.
-- Uses: core
-- ARGV: id epoch first limit chunks (count, then each)
-- Replies: OK last | LIMIT last | STALE status | GAP last
local id, epoch, first, limit = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local r = load(id, { 'status', 'epoch', 'out', 'gen' })
if not r then return { 'STALE', 'gone' } end
if r.epoch ~= epoch then return { 'STALE', r.status } end
local claim, known, count = string.match(epoch, '^%d+'), string.match(r.out or '', '^(%d+)%-(%d+)$')
local last = known == claim and tonumber(count) or 0
if first > limit then return { 'LIMIT', ms(last) } end
if first > last + 1 then return { 'GAP', ms(last) } end
local wanted = first + tonumber(ARGV[5]) - 1
local start, place = last + 1, r.gen .. '.' .. ms(redis.call('LLEN', P .. 'log:' .. id))
for n = start, math.min(wanted, limit) do
  redis.call('XADD', P .. 'out:' .. id, claim .. '-' .. ms(n), 'c', ARGV[6 + n - first], 't', NOW_S, 'j', place)
  last = n
end
if last >= start then
  local newest = claim .. '-' .. ms(last)
  redis.call('HSET', P .. 'run:' .. id, 'out', newest)
  redis.call('PUBLISH', 'agnt5:out:' .. id, newest)
end
return { wanted > limit and 'LIMIT' or 'OK', ms(last) }
