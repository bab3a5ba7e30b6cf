#!lua
-- Put values of an entity's state that were sealed anew in the place of those that were read, where nothing changed them.
-- Uses: core
-- ARGV: entity changes (count, then key old new each)
-- Replies: OK replaced
local key, replaced = P .. 'ent:' .. ARGV[1], 0
for i = 3, #ARGV, 3 do
  if redis.call('HGET', key, ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', key, ARGV[i], ARGV[i + 2])
    replaced = replaced + 1
  end
end
return { 'OK', ms(replaced) }
