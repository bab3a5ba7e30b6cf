#!lua
-- Hold an estimate in a budget before it is spent, unless used + held + estimate would exceed a limit.
-- The same nonce again changes nothing. Another nonce for the same operation takes the place of its earlier try.
-- Uses: core budgets
-- ARGV: scope per operation nonce requests tokens cost max_requests max_tokens max_cost hold retention
-- per: ms of a window, '' for none; max_...: '' for no limit; hold: ms after which a hold counts no more
-- Replies: OK | REFUSED what used held until
local scope, op, nonce = ARGV[1], ARGV[3], ARGV[4]
local key = P .. 'budget:' .. scope
local asked, limits = { ARGV[5], ARGV[6], ARGV[7] }, { ARGV[8], ARGV[9], ARGV[10] }
local window = begin_window(scope, ARGV[2])
local expiry = expiry_of(scope, window, ARGV[2], ARGV[12])
let_due_go(scope)
if redis.call('HEXISTS', P .. 'tries:' .. scope, nonce) == 1 then return { 'OK' } end
local before = redis.call('HGET', P .. 'tries:' .. scope, 'o:' .. op)
if before then let_go(scope, before) end
for i, sort in ipairs(SORTS) do
  if limits[i] ~= '' then
    local found = redis.call('HMGET', key, sort, 'held_' .. sort)
    local used, held = tonumber(found[1] or '0'), tonumber(found[2] or '0')
    if used + held + tonumber(asked[i]) > tonumber(limits[i]) then
      return { 'REFUSED', sort, ms(used), ms(held), window and expiry or '' }
    end
  end
end
redis.call('HSET', key, 'at', NOW_S)
if window then redis.call('HSET', key, 'window', ms(window)) end
add(scope, 'held_', '', asked)
redis.call('HSET', P .. 'tries:' .. scope, 'o:' .. op, nonce, nonce, table.concat(asked, ' ') .. ' ' .. op)
redis.call('ZADD', P .. 'dues:' .. scope, ms(NOW + ARGV[11]), nonce)
keep_budget(scope, expiry)
return { 'OK' }
