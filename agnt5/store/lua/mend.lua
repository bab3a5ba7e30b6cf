#!lua
-- Make a run's index entries agree with its record, and queue it if nothing else would bring it on. For a doctor.
-- Safe on a sound run: at worst it is looked at once more than needed.
-- Uses: core claims locks ends
-- ARGV: id entry member retention
-- entry: an index, named without the prefix, that holds `member` on behalf of this run; '' for none. It is struck off
-- if the record does not agree. Of `kids:<parent>` the parent is told or woken.
-- Replies: OK out | GONE out
local id, entry_key, member, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local r = load(id)
local sort, rest = string.match(entry_key, '^(%a+):?(.*)$')
local live = r and not ENDED[r.status]
local e = entity_of(id)
local place = e and redis.call('HGET', P .. 'run:' .. id, 'lock')

if sort == 'owned' and not (live and r.host == rest) then
  redis.call('SREM', P .. entry_key, member)
elseif sort == 'queued' and not (live and r.status == 'queued' and rest == r.queue .. ':' .. r.priority) then
  redis.call('ZREM', P .. entry_key, member)
elseif sort == 'open' and not (live and not r.parent) or sort == 'ended' and (live or not r)
  or sort == 'answers' and not (r and not live)
  or sort == 'timers' and not (live and (string.sub(member, 1, 1) ~= 'r' or r.retry)) then
  redis.call('ZREM', P .. entry_key, member)
elseif sort == 'refused' and not (live and r.trouble) then
  redis.call('SREM', P .. entry_key, member)
elseif sort == 'lock' and member ~= '' and redis.call('HGET', P .. entry_key, 'run') == member
  and not (live and place == 'held') then
  pass_on(rest)
elseif sort == 'line' and not (live and place == 'line') then
  redis.call('LREM', P .. entry_key, 0, member)
elseif sort == 'kids' and not live then
  local p, seq = load(rest), redis.call('HGET', P .. entry_key, member)
  redis.call('HDEL', P .. entry_key, member)
  if p and not ENDED[p.status] then
    if r and r.told ~= '1' and r.pgen == p.gen and seq then
      tell_end(id, rest, p, seq)
    elseif p.status == 'waiting' and (p.host or '') == '' and not p.retry then
      enqueue(rest, p)
    end
  end
end
if not r then return { 'GONE', OUT } end

local key = P .. 'run:' .. id
if not live then
  for _, k in ipairs({ 'run:', 'log:', 'ops:' }) do
    if redis.call('PTTL', P .. k .. id) == -1 then redis.call('PEXPIRE', P .. k .. id, retention) end
  end
  redis.call('HSET', key, 'host', '', 'epoch', '')
  redis.call('DEL', P .. 'kids:' .. id)
  redis.call('ZREM', P .. 'timers', 'r|' .. id, 'd|' .. id)
  redis.call('ZREM', P .. 'open', id)
  unset_timers(id)
  local ended = redis.call('HGET', key, 'ended')
  if redis.call('HEXISTS', key, 'caller') == 1 then redis.call('ZADD', P .. 'answers', 'NX', ended or NOW_S, id) end
  if not (r.parent or e) then redis.call('ZADD', P .. 'ended', 'NX', ended or NOW_S, id) end
  return { 'OK', OUT }
end

for _, k in ipairs({ 'run:', 'log:', 'ops:' }) do redis.call('PERSIST', P .. k .. id) end
if not (r.parent or e) then redis.call('ZADD', P .. 'open', 'NX', redis.call('HGET', key, 'created'), id) end
if r.deadline and tonumber(r.deadline) > NOW then
  redis.call('ZADD', P .. 'timers', 'NX', r.deadline, 'd|' .. id)
  nudge('d|' .. id)
end
if place and stands(e, id, place) then return { 'OK', OUT } end
if r.host and r.host ~= '' then
  redis.call('SADD', P .. 'owned:' .. r.host, id)
elseif r.status == 'waiting' and r.retry then
  redis.call('ZADD', P .. 'timers', 'NX', r.retry, 'r|' .. id)
  nudge('r|' .. id)
elseif r.status == 'waiting' and r.trouble then
  redis.call('SADD', P .. 'refused', id)
else
  enqueue(id, r)
end
return { 'OK', OUT }
