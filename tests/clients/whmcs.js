// Call the npm client `whmcs`: url, username, password, module, method and its arguments; print {answer} or {error}.
const WHMCS = require("whmcs");

const [serverUrl, username, password, module_, method, ...args] = process.argv.slice(2);
new WHMCS({ serverUrl, username, password })[module_][method](...args, (error, answer) => {
    console.log(JSON.stringify(error ? { error: error.message } : { answer }));
});
