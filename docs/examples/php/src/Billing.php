<?php

declare(strict_types=1);

/** The code under test: what your project has in its place. */
final class Billing
{
    public function __construct(
        private string $url,
        private float $timeout = 10.0,
        private int $tries = 3,
    ) {
    }

    public function balance(int $clientid): string
    {
        $log = $this->call('GetCredits', ['clientid' => $clientid])['credits']['credit'] ?? [];
        return number_format(array_sum(array_column($log, 'amount')), 2, '.', '');
    }

    public function addCredit(int $clientid, string $amount, string $description): string
    {
        $params = ['clientid' => $clientid, 'amount' => $amount, 'description' => $description];
        return $this->call('AddCredit', $params)['newbalance'];
    }

    public function isPaid(int $invoiceid): bool
    {
        return $this->call('GetInvoice', ['invoiceid' => $invoiceid])['status'] === 'Paid';
    }

    private function call(string $action, array $params): array
    {
        $params += ['action' => $action, 'responsetype' => 'json', 'identifier' => 'billing', 'secret' => 's3cret'];
        for ($try = 1; ; $try++) {
            $curl = curl_init($this->url);
            curl_setopt_array($curl, [
                CURLOPT_POSTFIELDS => http_build_query($params),
                CURLOPT_RETURNTRANSFER => true,
                CURLOPT_TIMEOUT_MS => (int) ($this->timeout * 1000),
            ]);
            $body = curl_exec($curl);
            if ($body === false) {
                throw new RuntimeException("WHMCS does not answer: " . curl_error($curl));
            }
            $busy = in_array(curl_getinfo($curl, CURLINFO_RESPONSE_CODE), [429, 502, 503, 504], true);
            if (!$busy || $try >= $this->tries) {
                break;
            }
        }
        $answer = json_decode($body, true);
        if (!is_array($answer)) {
            throw new RuntimeException('WHMCS does not answer with JSON');
        }
        if ($answer['result'] !== 'success') {
            throw new RuntimeException($answer['message']);
        }
        return $answer;
    }
}
