<?php

// What a queue would run in the background: php add-credit.php CLIENTID AMOUNT
require __DIR__ . '/../src/Billing.php';

(new Billing(getenv('WHMCS_URL')))->addCredit((int) $argv[1], $argv[2], 'Bonus');
