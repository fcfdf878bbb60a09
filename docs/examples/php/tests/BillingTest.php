<?php

declare(strict_types=1);

use PHPUnit\Framework\TestCase;

final class BillingTest extends TestCase
{
    private WhmcsMock $whmcs;
    private Billing $billing;

    protected function setUp(): void
    {
        $world = 'phpunit-' . (getenv('TEST_TOKEN') ?: '1'); // paratest numbers its processes
        $this->whmcs = new WhmcsMock(WHMCS_SERVER, $world);
        $this->whmcs->reset();
        $this->billing = new Billing($this->whmcs->url);
    }

    /** Print the recorded calls below a failed test. */
    protected function onNotSuccessfulTest(Throwable $failure): never
    {
        fwrite(STDERR, "\n{$this->whmcs->report()}");
        parent::onNotSuccessfulTest($failure);
    }

    private function client(int $id, string ...$amounts): void
    {
        $credits = array_map(fn ($amount) => ['date' => '2024-02-29', 'amount' => $amount], $amounts);
        $this->whmcs->add(['clients' => [['id' => $id, 'credits' => $credits]]]);
    }

    public function testBalanceIsTheSumOfTheLog(): void
    {
        $this->client(7, '25.00', '-10.50');
        self::assertSame('14.50', $this->billing->balance(7));
    }

    public function testClientWithoutCredits(): void
    {
        $this->client(7);
        self::assertSame('0.00', $this->billing->balance(7));
    }

    public function testUnknownClient(): void
    {
        $this->expectExceptionMessage('Client ID Not Found');
        $this->billing->balance(7); // the other cases' client 7 is gone: setUp() began anew
    }

    public function testAddedCreditCounts(): void
    {
        $this->client(7, '25.00');
        self::assertSame('30.00', $this->billing->addCredit(7, '5.00', 'Bonus'));
        self::assertSame('30.00', $this->billing->balance(7));
    }

    public function testAddedCreditIsInTheLog(): void
    {
        $this->client(7);
        $this->billing->addCredit(7, '5.00', 'Bonus');
        self::assertSame(['Bonus'], array_column($this->whmcs->client(7)['credits'], 'description'));
    }

    public function testRetriesDuringMaintenance(): void
    {
        $this->client(7, '25.00');
        $this->whmcs->add(['faults' => [['fault' => 'maintenance', 'times' => 2]]]);
        self::assertSame('25.00', $this->billing->balance(7));
        self::assertSame([503, 503, 200], array_column($this->whmcs->calls(), 'status'));
    }

    public function testGivesUpInTime(): void
    {
        $this->client(7);
        $this->whmcs->add(['faults' => [['fault' => 'slow', 'seconds' => 5]]]);
        $this->expectExceptionMessage('WHMCS does not answer');
        (new Billing($this->whmcs->url, timeout: 0.2))->balance(7);
    }

    public function testRefusedAmount(): void
    {
        $this->client(7);
        $this->whmcs->add(['faults' => [['message' => 'Amount is too high', 'action' => 'AddCredit']]]);
        $this->expectExceptionMessage('Amount is too high');
        $this->billing->addCredit(7, '5000.00', 'Bonus');
    }

    public function testInvoiceIsPaid(): void
    {
        $unpaid = ['result' => 'success', 'status' => 'Unpaid'];
        $sequence = [$unpaid, ['status' => 'Paid'] + $unpaid];
        $this->whmcs->add(['answers' => [['action' => 'GetInvoice', 'sequence' => $sequence]]]);
        self::assertFalse($this->billing->isPaid(8));
        self::assertTrue($this->billing->isPaid(8));
    }

    public function testBackgroundJob(): void
    {
        $this->client(7);
        $job = proc_open([PHP_BINARY, 'bin/add-credit.php', '7', '5.00'], [], $pipes, dirname(__DIR__),
            ['WHMCS_URL' => $this->whmcs->url] + getenv());
        [$call] = $this->whmcs->calls(['action' => 'AddCredit', 'clientid' => 7, 'wait' => 5]);
        self::assertSame('5.00', $call['params']['amount']);
        self::assertSame(0, proc_close($job));
    }
}
