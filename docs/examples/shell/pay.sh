#!/bin/sh
# What is tested: add a credit, and try once more if WHMCS is down. Usage: pay.sh CLIENTID AMOUNT
for try in 1 2; do
    curl -fsS "$WHMCS_URL" -d action=AddCredit -d "clientid=$1" -d "amount=$2" -d description=Bonus \
        -d responsetype=json -d identifier=billing -d secret=s3cret && exit
done
exit 1
