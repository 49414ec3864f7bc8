package cli

var doctorCommand = command{}
