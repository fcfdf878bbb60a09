<?php

declare(strict_types=1);

/** Controls whmcs-mock from PHP. Copy this file into your tests. */
final class WhmcsMock
{
    /** The URL of the API, for the code under test. */
    public readonly string $url;

    /**
     * @param string $server where whmcs-mock listens, such as http://127.0.0.1:8421
     * @param string $world  a name: each world has its own clients, faults and calls
     */
    public function __construct(private string $server, private string $world)
    {
        $this->url = "$server/world/$world/includes/api.php";
    }

    /** Start a server that stops with this process, unless one runs at WHMCS_MOCK_URL. Return its URL. */
    public static function start(string ...$options): string
    {
        if ($running = getenv('WHMCS_MOCK_URL')) {
            return rtrim($running, '/');
        }
        $command = ['whmcs-mock', 'serve', '--port', '0', ...$options];
        $process = @proc_open($command, [['file', '/dev/null', 'r'], ['pipe', 'w'], STDERR], $pipes);
        $line = $process ? (string) fgets($pipes[1]) : '';
        if (!preg_match('~^whmcs-mock ready (\S+)/includes/api\.php~', $line, $ready)) {
            fwrite(STDERR, "whmcs-mock did not start: see above; if nothing is shown there, it is not on the PATH\n");
            exit(1);
        }
        register_shutdown_function(fn () => proc_terminate($process));
        if (function_exists('pcntl_async_signals')) { // without this, a signal ends PHP and not the server
            pcntl_async_signals(true);
            array_map(fn ($signal) => pcntl_signal($signal, fn () => exit(128 + $signal)), [SIGINT, SIGTERM, SIGHUP]);
        }
        return $ready[1];
    }

    /** Restore the fixtures; drop all calls and faults. */
    public function reset(): void
    {
        $this->send('POST', 'reset');
    }

    /** Add what a fixture file can hold: clients, answers, faults, credentials. */
    public function add(array $fixtures): void
    {
        $this->send('POST', 'fixtures', json_encode($fixtures, JSON_THROW_ON_ERROR));
    }

    /** The calls that match; with ['wait' => 5] it waits up to 5 seconds until there is one. */
    public function calls(array $filter = []): array
    {
        return $this->send('GET', 'calls?' . http_build_query($filter));
    }

    /** A client as it is now: its id, balance and credits. */
    public function client(int $id): array
    {
        return $this->send('GET', "clients/$id")['clients'][0];
    }

    /** The calls and their answers, as readable text. */
    public function report(): string
    {
        return $this->send('GET', 'report');
    }

    private function send(string $method, string $path, string $body = ''): mixed
    {
        $curl = curl_init("$this->server/world/$this->world/_mock/$path");
        curl_setopt_array($curl, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_POSTFIELDS => $body,
            CURLOPT_HTTPHEADER => ['Content-Type: application/json'],
            CURLOPT_RETURNTRANSFER => true,
        ]);
        $text = curl_exec($curl);
        if ($text === false) {
            throw new RuntimeException("no whmcs-mock at $this->server: " . curl_error($curl));
        }
        $answer = json_decode($text, true) ?? $text;
        if (isset($answer['error'])) {
            throw new RuntimeException("whmcs-mock: {$answer['error']}");
        }
        return $answer;
    }
}
