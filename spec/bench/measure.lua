-- What the benchmarks share: candidates take turns, and what is compared is what they took in the
-- same round, because a shared machine is twice as fast in one minute as in the next.

local M = {}

--- Of numbers, which are put in order.
function M.median(values)
    table.sort(values)
    return values[math.floor(#values / 2) + 1]
end

-- A copy of a list in random order.
local function shuffled(list)
    local copy = { table.unpack(list) }
    for index = #copy, 2, -1 do
        local other = math.random(index)
        copy[index], copy[other] = copy[other], copy[index]
    end
    return copy
end

--- Runs each candidate once a round, in random order: name -> a list of what it gave, by round.
-- candidates: name -> function that gives a table of numbers.
function M.in_rounds(rounds, candidates)
    local names, seen = {}, {}
    for name in pairs(candidates) do
        names[#names + 1], seen[name] = name, {}
    end
    table.sort(names)
    for _ = 1, rounds do
        for _, name in ipairs(shuffled(names)) do
            table.insert(seen[name], candidates[name]())
        end
    end
    return seen
end

--- The median of one candidate's number (its key) over the rounds.
function M.typical(seen, name, key)
    local values = {}
    for round, numbers in ipairs(seen[name]) do values[round] = numbers[key] end
    return M.median(values)
end

--- The median, over the rounds, of a candidate's number in times another's of the same round.
function M.ratio(seen, name, other, key, other_key)
    local ratios = {}
    for round, numbers in ipairs(seen[name]) do
        ratios[round] = numbers[key] / seen[other][round][other_key or key]
    end
    return M.median(ratios)
end

return M
