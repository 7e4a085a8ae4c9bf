-- The retry budget alone; what retries do with it is in retry_spec and batch_spec.

local budget = require "csms.budget"

describe("a budget", function()
    local self

    before_each(function() self = budget.new(30) end)

    it("is full at first", function()
        assert.same({ 30, false }, { self.tokens, self.spent })
    end)

    it("gives the cost of a charge, or nil where too little is left", function()
        assert.equal(14, self:charge(budget.TRANSIENT_COST, nil, 0, 0))
        assert.equal(14, self:charge(budget.TRANSIENT_COST, nil, 0, 0))
        assert.equal(2, self.tokens)
        assert.is_nil(self:charge(budget.TRANSIENT_COST, nil, 0, 0))
        assert.is_nil(self:charge(budget.THROTTLED_COST, nil, 0, 0))
        assert.equal(2, self.tokens)
    end)

    it("can be used to its last token", function()
        self = budget.new(14)
        assert.equal(14, self:charge(14, nil, 0, 0))
        assert.equal(0, self.tokens)
    end)

    it("costs 14 for a fault and 5 for throttling", function()
        assert.same({ 14, 5 }, { budget.TRANSIENT_COST, budget.THROTTLED_COST })
    end)

    it("gets back what a retry cost, or 1, and never more than it had", function()
        self:charge(14, nil, 0, 0)
        self:charge(14, nil, 0, 0)
        self:pay_back(14)
        assert.equal(16, self.tokens)
        self:pay_back()
        assert.equal(17, self.tokens)
        self:pay_back(0)
        assert.equal(17, self.tokens)
        self:pay_back(14)
        assert.equal(30, self.tokens)
    end)

    it("is charged once for a connection's death", function()
        assert.equal(14, self:charge(14, 4000, 0, 1))
        for _ = 1, 63 do assert.equal(0, self:charge(14, 4000, 0, 2)) end
        assert.equal(16, self.tokens)
        assert.equal(14, self:charge(14, 4001, 0, 2))
        assert.equal(2, self.tokens)
    end)

    it("is charged for what began after that death: a stream alone can die again", function()
        self = budget.new(100)
        assert.equal(14, self:charge(14, 4000, 0, 1))
        assert.equal(14, self:charge(14, 4000, 2, 3))
        assert.equal(0, self:charge(14, 4000, 2, 4))
    end)

    it("is charged again where the same port dies much later", function()
        assert.equal(14, self:charge(14, 4000, 0, 0))
        assert.equal(0, self:charge(14, 4000, 0, 9))
        assert.equal(14, self:charge(14, 4000, 0, 60))
    end)

    it("is charged each time where there is no port", function()
        assert.equal(14, self:charge(14, nil, 0, 0))
        assert.equal(14, self:charge(14, nil, 0, 0))
    end)

    it("forgets deaths, so that it does not grow for ever", function()
        self = budget.new(1e9)
        for port = 1, 5000 do self:charge(14, port, port, port) end
        local kept = 0
        for _ in pairs(self.deaths) do kept = kept + 1 end
        assert.is_true(kept < 50)
    end)

    it("is full again after refill", function()
        self:charge(14, nil, 0, 0)
        self.spent = true
        self:refill()
        assert.same({ 30, false }, { self.tokens, self.spent })
    end)

    it("of nothing gives nothing", function()
        self = budget.new(0)
        assert.is_nil(self:charge(5, nil, 0, 0))
        self:pay_back()
        assert.equal(0, self.tokens)
    end)
end)
