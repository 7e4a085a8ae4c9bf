-- SPDX-License-Identifier: MIT
-- A program that starts with stdout or stderr closed would give their numbers to
-- the next file or socket that it opens, and write its messages into that.

local M = {
    stdout_was_closed = false,
    held = {}, -- what fills the places, open as long as the process
}

local EBADF = 9

--- Fills the places of closed standard streams; what is written to such a stdout
--- fails, as it should. To be called before anything is opened.
function M.fill()
    for index, stream in ipairs { io.stdin, io.stdout, io.stderr } do
        local _, _, code = stream:seek()
        if code == EBADF then -- the lowest number that is free is this one's
            local is_stdout = stream == io.stdout
            M.held[index] = io.open(is_stdout and "/dev/full" or "/dev/null", "r+")
            M.stdout_was_closed = M.stdout_was_closed or is_stdout
        end
    end
end

return M
