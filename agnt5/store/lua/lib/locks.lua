-- Entities: state in `ent:`, one lock a key in `lock:`, held by a run (not by its host), so that it outlives hosts.
-- Writes that find it held wait in `line:`, first come, first served, without a message or a slot.
local PAGE, RECENT = 500, 20
local TAKER, NONCE = '', '' -- the host that takes the next call itself, and the nonce of its claim
local HEIR = {}             -- what it is told: id handler, then as `claim` answers

local function entity_of(id) return string.match(id, '^([^~]*)~@[^~]*$') end

-- What a host that takes over a call is told.
local function heir(id, r, epoch)
  local told = claimed(id, r, epoch, PAGE)
  told[1] = r.handler
  table.insert(told, 1, id)
  return told
end

-- A call whose reply was lost is repeated: the host is told again what it owns since then, under the nonce of that call.
local function tell_again(id, r)
  if TAKER ~= '' and r.host == TAKER and string.match(r.epoch, ':(.*)$') == NONCE then HEIR = heir(id, r, r.epoch) end
end

-- Hand a call to the calling host, or queue it; with lock 'held' it has got it now.
local function bring_on(id, r, lock)
  if TAKER ~= '' then
    HEIR = heir(id, r, take(id, r, TAKER, NONCE, 'entity', lock))
    return
  end
  if lock then redis.call('HSET', P .. 'run:' .. id, 'lock', lock) end
  enqueue(id, r)
end

-- The lock of an entity is free: the first in line gets it.
local function pass_on(e)
  local lock = P .. 'lock:' .. e
  while true do
    local id = redis.call('LPOP', P .. 'line:' .. e)
    local r = id and load(id, CLAIM)
    if not id then
      redis.call('HSET', lock, 'run', '')
      if redis.call('EXISTS', P .. 'ent:' .. e) == 0 then redis.call('DEL', lock, P .. 'recent:' .. e) end
      return
    elseif r and r.status == 'waiting' then
      redis.call('HSET', lock, 'run', id)
      return bring_on(id, r, 'held')
    end
  end
end

-- For a doctor: make an entity agree with a call of it. True where the call waits in line.
local function stands(e, id, place)
  local holder = redis.call('HGET', P .. 'lock:' .. e, 'run') or ''
  local h = load(holder, { 'status', 'lock' })
  local free = holder ~= id and not (h and h.lock == 'held' and not ENDED[h.status])
  if place == 'held' and free then redis.call('HSET', P .. 'lock:' .. e, 'run', id) end
  if place ~= 'line' then return false end
  if not redis.call('LPOS', P .. 'line:' .. e, id) then redis.call('RPUSH', P .. 'line:' .. e, id) end
  if free then pass_on(e) end
  return true
end

-- A call has ended: its caller is to be told, its lock or its place in line is given up.
local function end_call(e, id, r)
  local place, caller = r.lock, r.caller
  if not place then place, caller = unpack(redis.call('HMGET', P .. 'run:' .. id, 'lock', 'caller')) end
  if caller then redis.call('ZADD', P .. 'answers', NOW_S, id) end
  if place == 'line' then redis.call('LREM', P .. 'line:' .. e, 1, id) end
  if place ~= 'held' then return end
  if redis.call('LPUSH', P .. 'recent:' .. e, id) >= 2 * RECENT then
    redis.call('LTRIM', P .. 'recent:' .. e, 0, RECENT - 1)
  end
  pass_on(e)
end
