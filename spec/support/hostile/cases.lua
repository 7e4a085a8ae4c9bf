-- All the cases, in the order of the server's ports. The first one is good.

local all = {
    { name = "behaves", scheme = "https", alpn = "h2", timeout = 5,
        serve = function(session)
            session:start()
            session:serve()
        end },
}
for _, module in ipairs { "http1_cases", "http2_cases", "batch_cases", "proxy_cases" } do
    for _, case in ipairs(require("spec.support.hostile." .. module)) do all[#all + 1] = case end
end
return all
