-- For a doctor: an index's entry that its run's record does not agree with is struck off.

-- entry_key: an index, without the prefix, which holds `member` on behalf of run `id`, whose record is `r`.
local function strike(entry_key, member, id, r, live, place)
  local sort, rest = string.match(entry_key, '^(%a+):?(.*)$')
  if sort == 'owned' and not (live and r.host == rest) then
    redis.call('SREM', P .. entry_key, member)
  elseif sort == 'queued' and not (live and r.status == 'queued' and rest == r.queue .. ':' .. r.priority) then
    redis.call('ZREM', P .. entry_key, member)
  elseif sort == 'open' and not (live and not r.parent) or sort == 'ended' and (live or not r)
    or sort == 'answers' and not (r and not live)
    or sort == 'timers' and not (live and (string.sub(member, 1, 1) ~= 'r' or r.retry)) then
    redis.call('ZREM', P .. entry_key, member)
  elseif sort == 'inbox' and not (live and redis.call('HGET', P .. 'ask:' .. member, 'status') == 'open') then
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
end
