-- What the benchmarks share.

local M = {}

--- Of numbers, which are put in order.
function M.median(values)
    table.sort(values)
    return values[math.floor(#values / 2) + 1]
end

--- A copy of a list in random order.
function M.shuffled(list)
    local copy = { table.unpack(list) }
    for index = #copy, 2, -1 do
        local other = math.random(index)
        copy[index], copy[other] = copy[other], copy[index]
    end
    return copy
end

return M
