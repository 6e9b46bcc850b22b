/**
 * The decision of authority.ts as one script of Redis (6 or later, or Valkey): all keys are in one slot by their hash
 * tag, all expire. memory-authority.ts is the same in TypeScript, line by line, and a test compares the two.
 *
 * KEYS: the sorted set of replicas, then one key an item. ARGV: replica, replicaTtlMs, leaseMs, slotsTtlMs, spareTtlMs,
 * bye (1 or 0), a time for tests (empty: the server's own clock), then eleven arguments an item, the kind first.
 */
export const script = `
local id, ttl, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local slots_ttl, spare_ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[7])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + time[2] / 1000
end
local slack = 1e-6
local function text(number) return string.format('%.17g', number) end

local living = KEYS[1]
redis.call('ZREMRANGEBYSCORE', living, '-inf', '(' .. text(now - ttl))
local known = redis.call('ZSCORE', living, id) and 1 or 0
redis.call('ZADD', living, text(now), id)
redis.call('PEXPIRE', living, ttl)
local count = redis.call('ZCARD', living)

local function decide_bucket(key, at)
  local capacity, rate, debt_max = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local spent, ago = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local back, debit = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local least, need, want = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  local level, since, mine, others, ended, ended_at = capacity, now, 0, 0, 0, 0
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    local name, value = fields[f], fields[f + 1]
    if name == 'level' then level = tonumber(value)
    elseif name == 'at' then since = math.min(now, tonumber(value))
    else
      local colon = string.find(value, ':', 1, true)
      local amount, expiry = tonumber(string.sub(value, 1, colon - 1)), tonumber(string.sub(value, colon + 1))
      if expiry <= now then
        ended = ended + amount
        ended_at = math.max(ended_at, expiry)
        redis.call('HDEL', key, name)
      elseif name == 'l:' .. id then mine = amount
      else others = others + amount end
    end
  end
  if ended > 0 and ended_at > since then
    level = math.min(level + (ended_at - since) * rate, capacity - others - mine - ended)
    since = ended_at
  end
  if spent > 0 and now - ago > since then
    level = math.min(level + (now - ago - since) * rate, capacity - others - mine)
    since = now - ago
  elseif spent > 0 then
    level = math.min(level, capacity - others - mine)
  end
  mine = math.max(0, mine - spent)
  level = math.min(level + (now - since) * rate, capacity - others - mine)
  local returned = math.min(back, mine)
  mine = mine - returned
  level = math.max(-debt_max, math.min(level + returned - debit, capacity - others - mine))
  local granted = 0
  if want > 0 and level >= need then
    granted = need + math.min(want - need, (level - need) / (count + 1))
  elseif want > 0 and least > 0 then
    granted = math.min(level, math.floor((mine + level + slack) / least) * least - mine)
  end
  if granted > 0 then
    level = level - granted
    mine = mine + granted
  else
    granted = 0
  end
  redis.call('HSET', key, 'level', text(level), 'at', text(now))
  if mine > 0 then redis.call('HSET', key, 'l:' .. id, text(mine) .. ':' .. text(now + lease_ms))
  else redis.call('HDEL', key, 'l:' .. id) end
  redis.call('PEXPIRE', key, math.ceil(math.max(lease_ms, (capacity - level) / rate) + spare_ttl))
  return text(granted), text(mine), text(level)
end

local function decide_slots(key, at)
  local limit, held = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local need, want = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local others = 0
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    if fields[f] ~= id then
      if redis.call('ZSCORE', living, fields[f]) then others = others + tonumber(fields[f + 1])
      else redis.call('HDEL', key, fields[f]) end
    end
  end
  local room = math.max(0, limit - others - held)
  local granted = math.min(room, need)
  if room > need then
    granted = need + math.floor(math.min(want - need, (room - need) / (count + 1)))
  end
  if held + granted > 0 then
    redis.call('HSET', key, id, text(held + granted))
    redis.call('PEXPIRE', key, slots_ttl)
  else redis.call('HDEL', key, id) end
  return text(granted), text(held + granted), text(room - granted)
end

local answer = { count, known }
for i = 2, #KEYS do
  local at = 8 + (i - 2) * 11
  local decide = ARGV[at] == 'bucket' and decide_bucket or decide_slots
  local granted, held, level = decide(KEYS[i], at + 1)
  answer[#answer + 1] = granted
  answer[#answer + 1] = held
  answer[#answer + 1] = level
end
if ARGV[6] == '1' then redis.call('ZREM', living, id) end
return answer
`
