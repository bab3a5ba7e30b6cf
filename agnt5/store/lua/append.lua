#!lua
-- Record what an owner's run asked for or computed, with the children, timers and asks that it causes.
-- Uses: core fence births claims asks locks budgets ends
-- ARGV: id epoch op host status limit limit_bytes
--       bodies (count, then each) children (count, then id seq handler kind queue priority body timeout each)
--       timers (count, then seq due each) untimers (count, then seq each)
--       asks (count, then seq due quorum roles people barred body each) unasks (count, then seq each)
--       cancels (count, then child reason each) retention
-- status: '' leaves it as it is. Past a limit (of events, or of their bytes) every append of this claim is refused, so
-- that none goes missing between others. A child that exists is taken up again; if it ended while nobody listened,
-- its parent is told now.
-- Replies: OK length now out mail | AGAIN length | STALE status | GAP op | LIMIT what found
local id, epoch, op, status, limit = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[6])
ME = ARGV[4]
local r = load(id, { 'status', 'host', 'epoch', 'op', 'gen', 'fin', 'finop', 'crashes', 'full', 'bytes' })
local refused = fence(id, r, epoch, op)
local full, what = string.match(r and r.epoch == epoch and r.full or '', '^(%d+) ?(%a*)')
full = tonumber(full)
if refused and not (refused[1] == 'AGAIN' and full and op >= full) then return refused end
local key, log, at = P .. 'run:' .. id, P .. 'log:' .. id, 7
local function take() at = at + 1; return ARGV[at] end

local bodies = tonumber(take())
local length = redis.call('LLEN', log)
local bytes = tonumber(r.bytes or '0')
for i = at + 1, at + bodies do bytes = bytes + #ARGV[i] end
if full or bodies > 0 and (length + bodies > limit or bytes > tonumber(ARGV[7])) then
  if not full then full, what = ARGV[3], length + bodies > limit and 'entries' or 'bytes' end
  if not refused then redis.call('HSET', key, 'op', ARGV[3], 'full', full .. ' ' .. what) end
  return { 'LIMIT', what, what == 'bytes' and ms(bytes) or ms(length) }
end
redis.call('HSET', key, 'op', ARGV[3], 'status', status ~= '' and status or r.status, 'bytes', ms(bytes))
if bodies > 0 and r.crashes then redis.call('HDEL', key, 'crashes', 'danger') end
for _ = 1, bodies do length = redis.call('RPUSH', log, entry(take())) end

for _ = 1, tonumber(take()) do
  local child, seq, handler, kind, queue, priority, body, timeout =
    take(), take(), take(), take(), take(), take(), take(), take()
  local c = load(child, { 'status', 'told' })
  if not c then
    redis.call('HSET', P .. 'kids:' .. id, child, seq)
    create_run(child, handler, kind, queue, priority, body, '', timeout, id, seq, r.gen)
  elseif not ENDED[c.status] then
    redis.call('HSET', P .. 'kids:' .. id, child, seq)
  elseif c.told ~= '1' then
    tell_end(child, id, load(id, ROUTE), seq)
  end
end

for _ = 1, tonumber(take()) do
  local seq, due = take(), take()
  local member = 't|' .. id .. '|' .. r.gen .. '.' .. seq
  redis.call('ZADD', P .. 'timers', due, member)
  redis.call('SADD', P .. 'alarms:' .. id, member)
  nudge(member)
end
for _ = 1, tonumber(take()) do
  local member = 't|' .. id .. '|' .. r.gen .. '.' .. take()
  redis.call('ZREM', P .. 'timers', member)
  redis.call('SREM', P .. 'alarms:' .. id, member)
end

for _ = 1, tonumber(take()) do
  local ref = r.gen .. '.' .. take()
  open_ask(id, ref, take(), take(), take(), take(), take(), take())
end
for _ = 1, tonumber(take()) do close_ask(id, r.gen .. '.' .. take(), 'withdrawn', '') end

local cancels, retention = tonumber(take()), ARGV[#ARGV]
for _ = 1, cancels do
  local child, reason = take(), take()
  cancel_run(child, reason, retention)
end
return { 'OK', ms(length), NOW_S, OUT, MAIL }
