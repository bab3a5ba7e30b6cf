-- Budgets: a hash a scope (`budget:`) has what was spent, in whole numbers, and what calls on their way hold.
-- `tries:` has the holds: 'o:' .. operation -> its latest try, and try -> 'requests tokens cost operation'. `dues:` has
-- the ms at which a try that is never settled is let go, and then forgotten.
local SORTS = { 'requests', 'tokens', 'cost' } -- cost in nano-dollars
local FORGET = 86400000 -- ms for which a try that was let go may still tell what it spent

local function drop_budget(scope)
  redis.call('DEL', P .. 'budget:' .. scope, P .. 'tries:' .. scope, P .. 'dues:' .. scope)
  return redis.call('ZREM', P .. 'budgets', scope)
end

-- Let a scope expire at a time, '' never. `budgets` lists it until then, and expires with the last that it lists.
local function keep_budget(scope, at)
  for _, k in ipairs({ 'budget:', 'tries:', 'dues:' }) do
    if at == '' then redis.call('PERSIST', P .. k .. scope) else redis.call('PEXPIREAT', P .. k .. scope, at) end
  end
  redis.call('ZADD', P .. 'budgets', at == '' and '+inf' or at, scope)
  local gone = redis.call('ZRANGEBYSCORE', P .. 'budgets', '-inf', NOW_S, 'LIMIT', 0, 100)
  if #gone > 0 then redis.call('ZREM', P .. 'budgets', unpack(gone)) end
  local last = tonumber(redis.call('ZRANGE', P .. 'budgets', -1, -1, 'WITHSCORES')[2] or '0')
  if last == math.huge then
    redis.call('PERSIST', P .. 'budgets')
  else
    redis.call('PEXPIREAT', P .. 'budgets', ms(last))
  end
end

-- A root run has ended: what its tree has spent is kept as long as its record.
local function end_budget(id, retention)
  if redis.call('EXISTS', P .. 'budget:tree:' .. id) == 1 then keep_budget('tree:' .. id, ms(NOW + retention)) end
end

-- The number of a scope's window, nil where it has none. Counters of an earlier one are dropped.
local function begin_window(scope, per)
  if per == '' then return nil end
  local window = math.floor(NOW / per)
  local before = redis.call('HGET', P .. 'budget:' .. scope, 'window')
  if before and tonumber(before) < window then drop_budget(scope) end
  return window
end

-- The ms at which a scope expires: with its window, or `retention` after its tree; '' for not yet.
local function expiry_of(scope, window, per, retention)
  if window then return ms((window + 1) * per) end
  local root = string.match(scope, '^tree:(.*)$')
  local status = root and redis.call('HGET', P .. 'run:' .. root, 'status')
  if root and (not status or ENDED[status]) then return ms(NOW + retention) end
  return ''
end

-- Add to what was spent (which '') or is held (which 'held_'), or with sign '-' take from it.
local function add(scope, which, sign, amounts)
  for i, sort in ipairs(SORTS) do
    if amounts[i] ~= '0' then redis.call('HINCRBY', P .. 'budget:' .. scope, which .. sort, sign .. amounts[i]) end
  end
end

local function amounts_of(held)
  local requests, tokens, cost, op = string.match(held, '^(%d+) (%d+) (%d+) (.*)$')
  return { requests, tokens, cost }, op
end

-- A try is over: nothing is known of it any more.
local function forget_try(scope, try, op)
  redis.call('HDEL', P .. 'tries:' .. scope, try)
  redis.call('ZREM', P .. 'dues:' .. scope, try)
  if redis.call('HGET', P .. 'tries:' .. scope, 'o:' .. op) == try then
    redis.call('HDEL', P .. 'tries:' .. scope, 'o:' .. op)
  end
end

-- Give back what a try holds. It stays known, holding nothing: its worker may only seem dead, and what that spends
-- counts when it is told.
local function let_go(scope, try)
  local amounts, op = amounts_of(redis.call('HGET', P .. 'tries:' .. scope, try))
  add(scope, 'held_', '-', amounts)
  redis.call('HSET', P .. 'tries:' .. scope, try, '0 0 0 ' .. op)
  redis.call('ZADD', P .. 'dues:' .. scope, ms(NOW + FORGET), try)
end

-- Let go what workers hold that told nothing for too long.
local function let_due_go(scope)
  for _, try in ipairs(redis.call('ZRANGEBYSCORE', P .. 'dues:' .. scope, '-inf', NOW_S, 'LIMIT', 0, 100)) do
    local held = redis.call('HGET', P .. 'tries:' .. scope, try)
    if string.sub(held, 1, 6) == '0 0 0 ' then
      forget_try(scope, try, string.sub(held, 7))
    else
      let_go(scope, try)
    end
  end
end
