<?php
// The example of the documentation of GetCredits, with the URL, the credentials and the client of the command line.
list(, $url, $username, $password, $clientid) = $argv;

$ch = curl_init();
curl_setopt($ch, CURLOPT_URL, $url);
curl_setopt($ch, CURLOPT_POST, 1);
curl_setopt($ch, CURLOPT_POSTFIELDS,
    http_build_query(
        array(
            'action' => 'GetCredits',
            // See https://developers.whmcs.com/api/authentication
            'username' => $username,
            'password' => $password,
            'clientid' => $clientid,
            'responsetype' => 'json',
        )
    )
);
curl_setopt($ch, CURLOPT_RETURNTRANSFER, 1);
$response = curl_exec($ch);
curl_close($ch);

echo $response;
