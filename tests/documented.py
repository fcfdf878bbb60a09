"""The answers that WHMCS's documentation of GetCredits shows: https://developers.whmcs.com/api-reference/getcredits/."""

#: "Example Response JSON".
DOCUMENTED = """\
{
    "result": "success",
    "totalresults": "2",
    "clientid": "1",
    "credits[credit][0][id]": "1",
    "credits[credit][0][date]": "2016-01-01",
    "credits[credit][0][description]": "This is a sample credit record",
    "credits[credit][0][amount]": "10.00",
    "credits[credit][0][relid]": "0",
    "credits[credit][1][id]": "2",
    "credits[credit][1][date]": "2016-01-01",
    "credits[credit][1][description]": "Credit Applied to Invoice #1",
    "credits[credit][1][amount]": "-10.00",
    "credits[credit][1][relid]": "0"
}"""

#: "Client ID Not Found", in the same writing.
NOT_FOUND = '{\n    "result": "error",\n    "message": "Client ID Not Found"\n}'
