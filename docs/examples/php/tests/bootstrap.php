<?php

declare(strict_types=1);

require __DIR__ . '/../src/Billing.php';
require __DIR__ . '/WhmcsMock.php';

define('WHMCS_SERVER', WhmcsMock::start('--profile', 'live', '--quiet'));
